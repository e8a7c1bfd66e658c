"""The method itself: schedules, guidance toward modes, the sampler, pipelines."""
