"""System checks, each with an id and a hint; ``site.py`` registers them."""
