"""The models that nexus_orch brings."""
