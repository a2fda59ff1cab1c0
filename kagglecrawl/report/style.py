"""How a page of the report looks, and the few lines of script that it has.

Both are named in the page by their checksums, and nothing else is run or loaded.
"""

from __future__ import annotations

import base64
import hashlib

STYLE = """
:root { color-scheme: light dark;
  --page: #f4f4f2; --card: #fcfcfb; --ink: #0b0b0b; --soft: #52514e; --grid: #e1e0d9;
  --axis: #a9a8a1; --edge: #e4e3dd; --main: #2a78d6; --same: #86b6ef; --second: #1baf7a;
  --third: #7d6fd0; --none: #aaa9a2; --bad: #d03b3b; --open: #d9d8d1; --limit: #b8500f;
  --held: #fab21955; --good: #0a7d0a; --warn: #8a5a00 }
@media (prefers-color-scheme: dark) { :root {
  --page: #0d0d0d; --card: #1a1a19; --ink: #ffffff; --soft: #c3c2b7; --grid: #2c2c2a;
  --axis: #5a5953; --edge: #2b2b29; --main: #3987e5; --same: #1f5aa3; --second: #199e70;
  --third: #9085e9; --none: #72716b; --bad: #e66767; --open: #3a3a37; --limit: #ec835a;
  --held: #fab21944; --good: #4fc04f; --warn: #fab219 } }
* { box-sizing: border-box }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.45 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif }
main { max-width: 1060px; margin: 0 auto; padding: 24px 16px 48px }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 4px; overflow-wrap: anywhere }
h2 { font-size: 19px; margin: 0 0 12px }
h3 { font-size: 15px; margin: 0 0 2px }
p { margin: 0 0 8px } p:last-child { margin-bottom: 0 }
.soft, figcaption, dt, .note { color: var(--soft); font-size: 14px }
.state { font-size: 14px; font-weight: 600; vertical-align: middle; margin-left: 8px;
  padding: 3px 11px; border-radius: 99px; border: 1px solid currentcolor; white-space: nowrap }
.state.good { color: var(--good) } .state.bad { color: var(--bad) }
.state.warn { color: var(--warn) } .state.busy { color: var(--main) }
.alert { border-left: 4px solid var(--limit); padding: 8px 12px; margin: 14px 0 0;
  background: var(--card); border-radius: 0 6px 6px 0; overflow-wrap: anywhere }
section { background: var(--card); border: 1px solid var(--edge); border-radius: 12px;
  padding: 20px; margin-top: 16px }
.sum { font-size: 18px; font-weight: 600; margin-bottom: 12px }
.sum b { font-size: 27px; font-variant-numeric: tabular-nums }
svg { display: block; width: 100%; overflow: visible }
svg.across { height: 10px; border-radius: 3px; overflow: hidden }
svg.total { height: 30px; border-radius: 6px }
svg.total rect { stroke: var(--card); stroke-width: 1 }
.stored { fill: var(--main) } .unchanged { fill: var(--same) } .skipped { fill: var(--none) }
.failed { fill: var(--bad) } .pending { fill: var(--open) } .rest { fill: var(--open) }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 4px 20px; padding: 0;
  margin: 10px 0 12px; font-size: 14px; color: var(--soft) }
.legend svg { display: inline-block; width: 12px; height: 12px; border-radius: 3px;
  margin-right: 6px; vertical-align: -1px; overflow: hidden }
.legend svg line { stroke-width: 3 }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(128px, 1fr));
  gap: 12px; margin-top: 16px }
.tiles div { background: var(--card); border: 1px solid var(--edge); border-radius: 12px;
  padding: 12px 14px }
.tiles b { display: block; font-size: 21px; line-height: 1.25 }
.tiles span { color: var(--soft); font-size: 14px }
figure { margin: 0 } figure + figure { margin-top: 28px }
figcaption { margin-bottom: 4px }
.plot { height: 170px; margin: 26px 0 30px; touch-action: pan-y; outline-offset: 6px }
.plot:last-child { margin-bottom: 44px }
.plot .bar { fill: var(--main) } .plot.second .bar { fill: var(--second) }
.plot.third .bar { fill: var(--third) } .plot.bad .bar { fill: var(--bad) }
.plot .bar.at { fill: var(--ink) }
.plot rect { shape-rendering: crispedges }
.held { fill: var(--held) }
.plot text { fill: var(--soft); font-size: 12px; font-variant-numeric: tabular-nums;
  paint-order: stroke; stroke: var(--card); stroke-width: 4px; stroke-linejoin: round }
.grid { stroke: var(--grid) } .floor { stroke: var(--axis) }
.limit { stroke: var(--limit); stroke-width: 2; stroke-dasharray: 6 4 }
.learnt { stroke: var(--third); stroke-width: 3 }
.plot .joint { stroke: var(--main); stroke-width: 2 }
.plot.second .joint { stroke: var(--second) }
.spread { stroke: var(--same); stroke-width: 2 }
.two { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr));
  gap: 24px 40px; margin-top: 20px; align-items: start }
.two:empty { display: none } .two + .note { margin-top: 14px } .wide + .wide { margin-top: 24px }
.wide { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-size: 14px }
caption { text-align: left; font-weight: 600; font-size: 15px; padding-bottom: 6px }
th, td { text-align: left; padding: 5px 14px 5px 0; border-bottom: 1px solid var(--grid);
  vertical-align: top; overflow-wrap: anywhere }
tbody tr:last-child > * { border-bottom: 0 }
thead th { color: var(--soft); font-weight: 500; white-space: nowrap; overflow-wrap: normal }
tbody th { font-weight: 400; min-width: 110px }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap;
  overflow-wrap: normal }
#slowest-requests td:first-child { white-space: nowrap; overflow-wrap: normal }
td.line { width: 42%; min-width: 80px; padding: 11px 0 }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 6px 18px; margin: 0 }
dd { margin: 0; overflow-wrap: anywhere }
#tip { position: fixed; z-index: 1; pointer-events: none; background: var(--ink);
  color: var(--card); font-size: 13px; padding: 4px 9px; border-radius: 6px; max-width: 90vw }
footer { color: var(--soft); font-size: 14px; margin-top: 20px }
@media (max-width: 560px) { .odd { display: none } h1 { font-size: 25px }
  section { padding: 16px } .sum { font-size: 17px } .sum b { font-size: 24px }
  dl { grid-template-columns: 1fr; gap: 0 } dd { margin-bottom: 8px } }
@media print { body { background: none } section { break-inside: avoid } }
"""

#: Shows what a bar stands for, under a pointer, a finger or the arrow keys; without it the
#: browser's own tooltips do. And says when a run that should go on writes no more.
SCRIPT = """
const tip = document.getElementById("tip");
for (const plot of document.querySelectorAll("svg.plot")) {
  const bars = [...plot.querySelectorAll(".bar")];
  const words = bars.map(bar => {
    const title = bar.querySelector("title");
    title.remove();
    return title.textContent;
  });
  let at = -1;
  const show = (index) => {
    if (at >= 0) bars[at].classList.remove("at");
    at = Math.max(-1, Math.min(bars.length - 1, index));
    tip.hidden = at < 0;
    if (at < 0) return;
    bars[at].classList.add("at");
    tip.textContent = words[at];
    const box = bars[at].getBoundingClientRect(), all = plot.getBoundingClientRect();
    const left = box.left + box.width / 2 - tip.offsetWidth / 2;
    tip.style.left = Math.max(4, Math.min(innerWidth - tip.offsetWidth - 4, left)) + "px";
    tip.style.top = Math.max(4, all.top - tip.offsetHeight - 22) + "px";
  };
  const point = (event) => {
    const index = bars.findIndex(bar => event.clientX <= bar.getBoundingClientRect().right);
    show(index < 0 ? bars.length - 1 : index);
  };
  plot.addEventListener("pointermove", point);
  plot.addEventListener("pointerdown", point);
  plot.addEventListener("pointerleave", () => show(-1));
  plot.addEventListener("blur", () => show(-1));
  plot.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) { show(Math.max(0, at + step)); event.preventDefault(); }
    if (event.key === "Escape") show(-1);
  });
}
const stale = document.getElementById("stale");
if (stale) {
  const minutes = Math.floor((Date.now() - Date.parse(stale.dataset.written)) / 60000);
  stale.hidden = minutes < 3;
  stale.querySelector("span").textContent = minutes;
}
"""


def checksum(text: str) -> str:
    """As Content-Security-Policy names what may be there."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


#: Nothing is loaded, from anywhere, and nothing runs or looks otherwise than it says here.
POLICY = (
    f"default-src 'none'; style-src {checksum(STYLE)}; script-src {checksum(SCRIPT)}; "
    "base-uri 'none'; form-action 'none'"
)
