"""What every view must show, as plain Python over the model of tests.hosts.model: one module per view. Never shipped.

The compiled engine reads files; the oracle never does. Where the two meet is a host tree that tests.hosts.build wrote
from the same model. Formulas follow the specification of the views section by section, as directly as they can be put.
"""
