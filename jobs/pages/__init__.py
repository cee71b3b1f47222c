"""Pages to open in a browser, each one file that needs nothing else.

    report_page.py   `report --html`: the store in pictures and tables; start reading here
    gallery_page.py  `report --gallery`: media beside what a model said of them
    runs.py          one run over its time, and all runs beside their estimates
    charts.py        figures → SVG, drawn by Vega-Lite
    report_figures.py, report_lines.py  which figures are drawn, and which tables stand beside them
    tables.py        lines → cells that sort, filter and copy
    embedding.py     a local file → a data: URL, where it is small enough
    rendering.py     templates, escaping, and the Content-Security-Policy
    templates/       Jinja2, one stylesheet, one script a page

Everything that comes from outside goes through autoescape; the policy lets no other script or style run.
"""
