"""The front door: clients stay connected to it while the engine behind it starts, dies or is started again."""
