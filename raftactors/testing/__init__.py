"""What users of the package test their applications with."""
