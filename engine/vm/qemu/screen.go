package qemu

import (
	"context"
	"fmt"
	"net"
)

// Screens are how a machine's screen is shown: in a window, or by a server at loopback.
func Screens() []string { return []string{"window", "vnc", "spice"} }

func screenArgs(name string) []string {
	switch name {
	case "window":
		return []string{"-display", "gtk"}
	case "vnc":
		return []string{"-vnc", "127.0.0.1:0,to=99"}
	case "spice":
		return []string{"-display", "none", "-spice", fmt.Sprintf("addr=127.0.0.1,port=%d,disable-ticketing=on", freePort())}
	}
	return []string{"-display", "none"}
}

// freePort is a port of loopback that nobody has at the moment; 0 where there is none. SPICE chooses
// none itself, and says so if another process was faster.
func freePort() int {
	socket, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return 0
	}
	defer socket.Close()
	return socket.Addr().(*net.TCPAddr).Port
}

// Viewer is the address at which the screen is shown, for a viewer; "" where there is none.
func (r *Running) Viewer(ctx context.Context, screen string) (string, error) {
	switch screen {
	case "vnc":
		var is struct{ Host, Service string }
		err := r.monitor.run(ctx, "query-vnc", nil, &is)
		return "vnc://" + net.JoinHostPort(is.Host, is.Service), err
	case "spice":
		var is struct {
			Host string
			Port int
		}
		err := r.monitor.run(ctx, "query-spice", nil, &is)
		return fmt.Sprintf("spice://%s:%d", is.Host, is.Port), err
	}
	return "", nil
}
