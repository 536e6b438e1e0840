"""``python -m rangeserver``."""

from rangeserver.cli.main import main

if __name__ == "__main__":
    main()
