package nat

import (
	"net/netip"
	"testing"
)

// TestRewriteResolvConf: only resolvers that the namespace can't reach are relayed.
func TestRewriteResolvConf(t *testing.T) {
	for host, want := range map[string]struct {
		conf    string
		relayed map[string]string
	}{
		"# stub\nnameserver 127.0.0.53\noptions edns0\nsearch a.example\n": {
			"# stub\nnameserver 192.0.0.3\noptions edns0\nsearch a.example\n", map[string]string{"192.0.0.3:53": "127.0.0.53:53"}},
		"nameserver 192.0.2.1\nnameserver 2001:db8::1\n": {"nameserver 192.0.2.1\nnameserver 2001:db8::1\n", nil},
		"nameserver ::1\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\n": {
			"nameserver 192.0.0.3\nnameserver 192.0.2.1\nnameserver 192.0.0.4\n", map[string]string{"192.0.0.3:53": "[::1]:53", "192.0.0.4:53": "[fe80::1%eth0]:53"}},
		"nameserver 0.0.0.0\nnameserver ::ffff:127.0.0.1\nnameserver 127.0.0.3\nnameserver 127.0.0.4\n": {
			"nameserver 192.0.0.3\nnameserver 192.0.0.4\nnameserver 192.0.0.5\n",
			map[string]string{"192.0.0.3:53": "0.0.0.0:53", "192.0.0.4:53": "[::ffff:127.0.0.1]:53", "192.0.0.5:53": "127.0.0.3:53"}},
		"nameserver none\n":  {"nameserver 192.0.0.3\n", map[string]string{"192.0.0.3:53": "127.0.0.1:53"}},
		"":                   {"nameserver 192.0.0.3\n", map[string]string{"192.0.0.3:53": "127.0.0.1:53"}},
		"search a.example":   {"search a.example\nnameserver 192.0.0.3\n", map[string]string{"192.0.0.3:53": "127.0.0.1:53"}},
		"nameserver 8.8.8.8": {"nameserver 8.8.8.8", nil},
	} {
		conf, relayed := rewriteResolvConf([]byte(host))
		if string(conf) != want.conf {
			t.Errorf("%q became %q, want %q", host, conf, want.conf)
		}
		if len(relayed) != len(want.relayed) {
			t.Errorf("%q: relays %v, want %v", host, relayed, want.relayed)
		}
		for at, to := range want.relayed {
			if got := relayed[netip.MustParseAddrPort(at)]; got != netip.MustParseAddrPort(to) {
				t.Errorf("%q: %s goes to %s, want %s", host, at, got, to)
			}
		}
	}
}

// TestTarget is what a packet may be sent to, whoever made it.
func TestTarget(t *testing.T) {
	n := &Network{}
	_, n.relayed = rewriteResolvConf([]byte("nameserver 127.0.0.53\n"))
	for to, want := range map[string]string{
		"192.0.2.1:80": "192.0.2.1:80", "[2001:db8::1]:80": "[2001:db8::1]:80", "10.0.0.1:1": "10.0.0.1:1", "169.254.169.254:80": "169.254.169.254:80",
		"[::ffff:192.0.2.1]:80": "192.0.2.1:80", "192.0.0.3:53": "127.0.0.53:53",
		"192.0.0.3:80": "", "192.0.0.4:53": "", "192.0.0.1:22": "", "192.0.0.2:22": "", "[fdb9:6c3e:51d7::1]:22": "",
		"127.0.0.1:80": "", "127.0.0.53:53": "", "127.255.255.255:1": "", "0.0.0.0:80": "", "0.1.2.3:80": "", "255.255.255.255:67": "", "224.0.0.251:5353": "",
		"[::]:80": "", "[::1]:80": "", "[::ffff:127.0.0.1]:80": "", "[::ffff:0.0.0.0]:80": "", "[fe80::1]:80": "", "[ff02::fb]:5353": "",
	} {
		got, ok := n.target(netip.MustParseAddrPort(to))
		if ok != (want != "") || ok && got.String() != want {
			t.Errorf("%s goes to %v, %v, want %q", to, got, ok, want)
		}
	}
}
