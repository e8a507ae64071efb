"""``procview check``: what an operator has to know of this host, as findings by subject. Nothing is mended here.

``findings`` says what a finding is and how bad; ``daemon``, ``connection``, ``slots``, ``containers``, ``hook`` and
``kernel`` each look at one subject; ``looking`` has them all look, within a deadline; ``report`` is what is printed.
Whatever may wait for a FUSE server or a container happens in a child process that can be given up (``children``).
"""
