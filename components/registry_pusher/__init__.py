"""RegistryPusher: a blessed model becomes a version in the model registry, and its champion or challenger."""
