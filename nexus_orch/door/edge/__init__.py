"""The door's connections: clients on the one side, the engine's private port on the other. Needs aiohttp."""
