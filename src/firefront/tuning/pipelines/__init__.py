"""From data to a model that serves: what a pipeline is told, its versions, its share of traffic."""
