"""Man pages and completions, made of the commands themselves: what --help says, and what it does not, in one page.

For ``./dev manual``; nothing of it is installed. What it writes is in the repository.
"""
