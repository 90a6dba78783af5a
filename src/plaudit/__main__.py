"""``python -m plaudit`` is ``plaudit``; torchrun starts it this way."""

from plaudit.cli.main import main

if __name__ == "__main__":
    main()
