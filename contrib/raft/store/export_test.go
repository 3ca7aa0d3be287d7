package store

import "slices"

// LimitChanges makes calls of more than n changes take several batches.
func (s *Store) LimitChanges(n int) { s.maxChanges = n }

// Held returns the indices of the entries that the table has, in the log or not, and
// how many values they take.
func (s *Store) Held() (indices []uint64, values int, err error) {
	err = s.scan(func(_ uint64, p page) {
		values++
		for _, e := range p {
			indices = append(indices, e.index)
			if e.body == nil {
				values++
			}
		}
	})
	slices.Sort(indices)
	return indices, values, err
}
