"""Black boxes, somebody else's flows: their points, and the laws that hold without knowing the map."""
