"""Sphinx's settings for the website; build.py makes the folders named here."""

project = "Arbitrary-scale super-resolution"
author = "The asr_course authors"
extensions = ["myst_nb"]
nb_execution_mode = "off"  # the outputs are committed
nb_render_markdown_format = "myst"  # tables among the outputs become tables
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
mathjax_path = "mathjax/tex-chtml.js"  # ours; the default is on another server
html_theme = "sphinx_book_theme"
html_title = project
html_favicon = "favicon.svg"
html_static_path = ["build/static"]
html_extra_path = ["build/extra"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False
html_theme_options = {
    "use_download_button": False,
    "use_fullscreen_button": False,
    "show_navbar_depth": 1,
    "navbar_persistent": [],
    "pygments_light_style": "tango",
    "pygments_dark_style": "monokai",
}
