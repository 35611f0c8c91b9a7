"""`python -m carbon_orchestrator`."""

from carbon_orchestrator.cli.main import main

main()
