"""`python -m bnexport`."""

from bnexport.cli import main

if __name__ == "__main__":
    main()
