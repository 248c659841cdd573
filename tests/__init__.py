"""The tests of taskcontrol and of the site, and the laboratory that they run in."""
