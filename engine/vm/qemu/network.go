package qemu

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// Network is what the cards of a machine are at.
type Network struct {
	// Kind is "user", a network of the machine's own with a way out through this
	// process; "none"; or "bridge:NAME", a bridge of this host, through QEMU's helper.
	Kind     string
	Forwards []Forward // of a user network
	Closed   bool      // a user network has no way out
}

// Forward lends a port of this host's loopback to a port of the guest.
type Forward struct{ Host, Guest int } // Host is 0 for one that is free

// ParseForward reads HOST:GUEST.
func ParseForward(text string) (Forward, error) {
	host, guest, ok := strings.Cut(text, ":")
	h, herr := strconv.ParseUint(host, 10, 16)
	g, gerr := strconv.ParseUint(guest, 10, 16)
	if !ok || herr != nil || gerr != nil || g == 0 {
		return Forward{}, fmt.Errorf("%q: want HOST:GUEST, two ports such as 8080:80, or 0:80 for one that is free", text)
	}
	return Forward{int(h), int(g)}, nil
}

// CheckNetwork says what is wrong with a kind of network; "" stands for a user network.
func CheckNetwork(kind string) error {
	name, bridge := strings.CutPrefix(kind, "bridge:")
	if kind == "" || kind == "user" || kind == "none" || bridge && bridgeName().MatchString(name) {
		return nil
	}
	return fmt.Errorf("%q: want user, none, or bridge:NAME", kind)
}

// bridgeName is what the kernel lets a network device be called.
var bridgeName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_.-]{1,15}$`) })

// backends are what each card is at. Ports are lent to the first one.
func (n Network) backends(cards int) []string {
	list := make([]string, cards)
	name, bridge := strings.CutPrefix(n.Kind, "bridge:")
	for i := range list {
		switch {
		case bridge:
			list[i] = "bridge,br=" + name
		case n.Kind != "none":
			list[i] = "user"
			if n.Closed {
				list[i] += ",restrict=on"
			}
			for _, f := range n.Forwards {
				if i == 0 {
					list[i] += fmt.Sprintf(",hostfwd=tcp:127.0.0.1:%d-:%d", f.Host, f.Guest)
				}
			}
		}
	}
	return list
}

// lentPort is a line of QEMU's table of a user network, of a port that is lent.
var lentPort = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?m)^\s*TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)\s+\S+\s+(\d+)\s`)
})

// Ports are the ports of loopback that are lent, by the guest's.
func (r *Running) Ports(ctx context.Context) (map[int]int, error) {
	var table string
	if err := r.monitor.run(ctx, "human-monitor-command", map[string]any{"command-line": "info usernet"}, &table); err != nil {
		return nil, err
	}
	ports := map[int]int{}
	for _, found := range lentPort().FindAllStringSubmatch(table, -1) {
		host, _ := strconv.Atoi(found[1]) // digits, as the expression has it
		guest, _ := strconv.Atoi(found[2])
		ports[guest] = host
	}
	return ports, nil
}
