"""The report of a run: what is counted while it runs (collect.py, series.py), what is told of it
(shape.py, document.py), and how it looks (page.py, plots.py, style.py)."""
