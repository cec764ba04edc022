package memory

// Marks returns the number of marks of deleted documents.
func (s *Store) Marks() int {
	s.db.mu.RLock()
	defer s.db.mu.RUnlock()
	return len(s.db.marks)
}
