package size

import (
	"fmt"
	"strconv"
	"strings"
)

// Limit is the most that something may take: a number of bytes, or a share of the room
// there is. The zero Limit is none.
type Limit struct {
	Bytes   Bytes
	Percent int // 1 to 100; 0 means that Bytes counts
}

// ParseLimit reads a size as [Parse] does, or a share such as "50%".
func ParseLimit(s string) (Limit, error) {
	number, share := strings.CutSuffix(strings.TrimSpace(s), "%")
	if !share {
		n, err := Parse(s)
		return Limit{Bytes: n}, err
	}
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 || n > 100 {
		return Limit{}, fmt.Errorf("share %q: want 1%% to 100%%", s)
	}
	return Limit{Percent: n}, nil
}

// String writes what ParseLimit reads.
func (l Limit) String() string {
	if l.Percent != 0 {
		return strconv.Itoa(l.Percent) + "%"
	}
	return l.Bytes.String()
}
