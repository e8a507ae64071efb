"""Man pages and completions: made of the commands, and tests that both agree with them.

`./dev manual` writes them (``python -m tests.manual``); what it writes is in the repository.
"""
