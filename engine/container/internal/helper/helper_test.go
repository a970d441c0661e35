package helper

import (
	"testing"
)

func TestHostLines(t *testing.T) {
	for _, c := range []struct{ image, host, want string }{
		{"", "", "127.0.0.1\tlocalhost\n127.0.1.1\tme\n"},
		{"127.0.0.1 localhost me\n", "", ""},
		{"::1 localhost # me\n", "", "127.0.1.1\tme\n"},
		{"localhost me\n1.1.1.1 x\n", "", "127.0.0.1\tlocalhost\n"},
		{"127.0.0.1 localhost\n", "127.0.0.1 localhost\n10.0.0.9 mirror", "10.0.0.9 mirror\n127.0.1.1\tme\n"},
	} {
		want := c.want
		if want != "" {
			want = ownMark + want
		}
		if got := string(hostLines([]byte(c.image), []byte(c.host), "me")); got != want {
			t.Errorf("%q and %q: got %q, want %q", c.image, c.host, got, want)
		}
	}
}
