"""``python -m plaudit``, which process starters such as torchrun use."""

from plaudit.cli.main import main

if __name__ == "__main__":
    main()
