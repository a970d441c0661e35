package digest

import "testing"

// However many leaves are added, and in whatever portions, the digest is that of the text
// which they make, and one of few leaves needs no hasher.
func TestLeavesAreCombinedInAnyPortions(t *testing.T) {
	for _, n := range []int{0, 1, 203, 204, 205, 206, 1000} {
		leaves := make([]Leaf, n)
		text := appendHead(nil, 12345)
		for i := range leaves {
			leaves[i] = Leaf{int64(3 * i), Sum([]byte{byte(i), byte(i >> 8)})}
			text = leaves[i].append(text)
		}
		for _, portion := range []int{1, 7, n + 1} {
			h := New(12345)
			for rest := leaves; len(rest) > 0; rest = rest[min(portion, len(rest)):] {
				h.Add(rest[:min(portion, len(rest))])
			}
			if got, want := h.Digest(), Sum(text); got != want || h.Digest() != want {
				t.Errorf("%d leaves in portions of %d: %s, want %s", n, portion, got, want)
			}
		}
	}
	leaf := []Leaf{{1, Sum(nil)}}
	if n := testing.AllocsPerRun(100, func() { h := New(1); h.Add(leaf); h.Digest() }); n > 2 {
		t.Errorf("a file of one block took %v allocations", n)
	}
}
