"""The loop: facts and plan before the launch, attempts and their record after it. Nothing else joins these stages."""
