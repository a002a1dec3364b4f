"""Engine environments and models that nexus_orch sets up itself: resumable, locked, and never touching the caller's.

`install_engine` makes an environment with vLLM, `fetch_model` a model folder. Both are lists of steps (`steps.py`)
written into a journal, so that a second call goes on where a killed one stopped.
"""
