package memory

// Used returns the bytes that the entries take, when what was too much has been removed.
func Used(s *Store) int {
	s.entries.CleanUp()
	return int(s.entries.WeightedSize())
}
