"""The screens in admin, one file each; ``taskcontrol/admin.py`` registers them."""
