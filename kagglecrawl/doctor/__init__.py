"""What `scrapy doctor` asks of Kaggle, how it reads the answers, and what it makes of them.

``checks``: what can be said without asking anybody. ``probes``: the calls, as declarations.
``spider``: sends them one after the other. ``questions``: the rows of the table, found against
assumed, with the words of ``verdicts``. ``lessons``: what the crawler is to do by it. ``text``: how
it is printed.
"""
