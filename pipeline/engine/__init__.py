"""Beam on engines that run elsewhere (Flink, Spark, Beam's own job server): the runners' checks, and the workers."""
