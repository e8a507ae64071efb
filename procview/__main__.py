"""``python -m procview``."""

from procview.cli import main

if __name__ == "__main__":
    main()
