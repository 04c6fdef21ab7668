"""`python -m domain_experts`, for launchers such as torchrun."""

from domain_experts.cli import main

if __name__ == "__main__":
    main()
