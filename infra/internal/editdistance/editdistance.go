// Package editdistance computes the edit distance of two words, and finds the nearest of several words.
package editdistance

// Distance returns the number of bytes to insert, drop, replace or swap with their neighbour
// that turn a into b (optimal string alignment).
func Distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}

// Nearest returns the word nearest to the typed one, the first of several that are equally near. It returns "" when no
// word is near: when more than a third of the typed letters would have to change.
func Nearest(typed string, words []string) string {
	best, nearest := max(1, len(typed)/3)+1, ""
	for _, word := range words {
		if d := Distance(typed, word); d < best {
			best, nearest = d, word
		}
	}
	return nearest
}
