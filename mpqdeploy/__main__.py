"""`python -m mpqdeploy`: the command line; torchrun starts it this way."""

from mpqdeploy.cli import main

if __name__ == "__main__":
    main()
