"""ChampionResolver: what the registry's alias points to, as a Model artifact."""
