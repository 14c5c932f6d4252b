// Package nearest finds the word that a person most likely meant.
package nearest

import "strings"

// Word returns the word of words that is nearest to text, or "" if no word is near: at most two
// bytes have to be added, removed or changed, or text is the beginning of the word. Upper and
// lower case are the same.
func Word(text string, words []string) string {
	best, least := "", 3
	for _, word := range words {
		d := distance(strings.ToLower(text), strings.ToLower(word))
		if len(text) >= 3 && strings.HasPrefix(word, text) {
			d = 1
		}
		if d < least && d < len(word) {
			best, least = word, d
		}
	}
	return best
}

// distance returns the number of bytes to add, remove or change to turn a into b
// (Levenshtein), or 4 if the lengths differ by more than 3.
func distance(a, b string) int {
	if d := len(a) - len(b); d > 3 || d < -3 {
		return 4
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
