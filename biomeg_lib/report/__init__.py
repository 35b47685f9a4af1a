"""What readers get: the paper's published numbers, the plots, and executed notebooks as self-contained HTML pages.

`published` is the paper as data, `figures` draws, `html` turns notebooks into the report. Nothing here trains or
scores; everything is made from plain tables, so that a page can be rebuilt without running the study again.
"""
