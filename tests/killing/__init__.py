"""Crawls that are killed with SIGKILL at chosen moments, resumed, and looked over.

============ ======================================================================================
points.py    the moments, by name
victim.py    a crawl that kills itself at one of them
shapes.py    what is crawled, and into which feed
trial.py     one job: started, killed, looked at, started again, until it ends
faulty.py    spiders and parts of a crawl that raise, drop and refuse when they are told to
look.py      what is right of a feed, of page files and of a job's file, and what is not
============ ======================================================================================
"""
