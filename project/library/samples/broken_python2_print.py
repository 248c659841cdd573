"""Written for Python 2."""

for name in ("Ada", "Grace"):
    print "Hello,", name
