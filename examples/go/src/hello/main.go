// hello: a Go program that speaks to wkspd: it makes a workspace, opens it, maps its memory, reads the name in its
// header, is told of events, and removes it again.
//
//	examples/go/build build/go && build/go/hello NAME
//
// What lies in a workspace is for fd_wksp and fd_alloc; without a Go port of them a program can look at bytes whose
// gaddrs it is told (Query lists partitions and roots). It must not write outside what it was given.
package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/containerd/ttrpc"

	"wkspconn"
	wkspd "wkspd/v1"
)

func run(name string) error {
	conn, err := wkspconn.Dial("")
	if err != nil {
		return err
	}
	client := ttrpc.NewClient(conn)
	defer client.Close()
	workspaces, host := wkspd.NewWorkspacesClient(client), wkspd.NewHostClient(client)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()

	version, err := host.Version(ctx, &wkspd.VersionRequest{})
	if err != nil {
		return err
	}
	fmt.Printf("wkspd %s, layout %d\n", version.Daemon, version.LayoutVersion)

	events, err := wkspconn.NewStream("", "wkspd.v1.Workspaces", "Watch", &wkspd.WatchRequest{Name: name}, 30*time.Second)
	if err != nil {
		return err
	}
	defer events.Close()
	if _, err = workspaces.Create(ctx, &wkspd.CreateRequest{Name: name, Size: 1 << 20, PageSize: 4096}); err != nil {
		return err
	}
	defer workspaces.Delete(ctx, &wkspd.DeleteRequest{Name: name, Force: true})

	opened, err := workspaces.Open(ctx, &wkspd.OpenRequest{Name: name, Mode: wkspd.OpenMode_OPEN_READ_ONLY})
	if err != nil {
		return err
	}
	fds, err := conn.Take(int(opened.Fds))
	if err != nil {
		return err
	}
	defer syscall.Close(fds[1]) // the lifeline: closing it ends the lease
	memory, err := syscall.Mmap(fds[0], 0, int(opened.MapSize), syscall.PROT_READ, syscall.MAP_SHARED|syscall.MAP_NORESERVE)
	syscall.Close(fds[0])
	if err != nil {
		return err
	}
	defer syscall.Munmap(memory)
	fmt.Printf("mapped %d bytes, its name stands at %d\n", len(memory), bytes.Index(memory[:4096], []byte(name)))

	for kind := wkspd.EventKind_EVENT_UNKNOWN; kind != wkspd.EventKind_EVENT_ATTACHED; {
		var event wkspd.Event
		if err := events.Next(&event); err != nil {
			return err
		}
		kind = event.Kind
		fmt.Println(kind, event.Name)
	}
	return nil
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: hello NAME")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintf(os.Stderr, "hello: %v\n", err)
		os.Exit(1)
	}
}
