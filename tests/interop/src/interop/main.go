// interop: calls every method of wkspd's services through another client stack than libwksp: Debian's ttrpc for Go,
// with stubs that are generated from our proto file.
//
// The calls stand in a table by the names of the methods. Which methods there are is asked of the proto file itself,
// so one that is added and not called here makes this fail. Prints a line for each: "ok NAME" or "not ok NAME: why".
package main

import (
	"context"
	"fmt"
	"os"
	"sort"
	"time"

	"github.com/containerd/ttrpc"

	"wkspconn"
	wkspd "wkspd/v1"
)

// What the calls have in hand.
type bed struct {
	ctx         context.Context
	conn        *wkspconn.Conn
	workspaces  wkspd.WorkspacesService
	host        wkspd.HostService
	checkpoints wkspd.CheckpointsService
}

func fail(format string, args ...interface{}) error {
	return fmt.Errorf(format, args...)
}

// Every method of every service in the proto file.
func declared() []string {
	var names []string
	services := wkspd.File_wkspd_proto.Services()
	for i := 0; i < services.Len(); i++ {
		methods := services.Get(i).Methods()
		for k := 0; k < methods.Len(); k++ {
			names = append(names, string(methods.Get(k).FullName()))
		}
	}
	return names
}

func run() int {
	conn, err := wkspconn.Dial("")
	if err != nil {
		fmt.Fprintf(os.Stderr, "interop: %v\n", err)
		return 1
	}
	client := ttrpc.NewClient(conn)
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	b := &bed{ctx, conn, wkspd.NewWorkspacesClient(client), wkspd.NewHostClient(client), wkspd.NewCheckpointsClient(client)}

	status := 0
	told := func(name string, err error) {
		if err == nil {
			fmt.Printf("ok %s\n", name)
			return
		}
		fmt.Printf("not ok %s: %v\n", name, err)
		status = 1
	}
	names := declared()
	sort.Strings(names)
	for _, name := range names {
		call, there := calls[name]
		if !there {
			told(name, fail("tests/interop does not call it; add it to the table in calls.go"))
			continue
		}
		told(name, call(b))
		delete(calls, name)
	}
	for name := range calls {
		told(name, fail("the proto file has no such method"))
	}
	return status
}

func main() {
	os.Exit(run())
}
