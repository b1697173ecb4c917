"""What architectures are made of: layers, experts, recurrent cells, field crossings."""
