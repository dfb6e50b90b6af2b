"""Whether a node belongs to the cluster that the other members form, by what those say of themselves."""
