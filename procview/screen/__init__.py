"""``procview top``: what the daemon says of itself and of containers, on a terminal, again and again.

``polls`` asks, ``rows`` makes numbers for people of two answers, ``controls`` is what keys change, ``page`` (with
``head``, ``table`` and ``detail``) draws with rich, ``terminal`` has terminal and signals, ``live`` is the loop.
"""
