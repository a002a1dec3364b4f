"""Profiles to a validated `RunSpec`: search path, overrides, origins, JSON Schema. The only Hydra importer.

Doors: `compose.run.compose_run` (one spec), `compose.app.run_app` (the `@hydra.main` application), `compose.project`
(the user's own folder; imports no Hydra).
"""
