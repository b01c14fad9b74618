package main

import (
	"bytes"
	"io"
	"os"
	"syscall"
	"time"

	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"wkspconn"
	wkspd "wkspd/v1"
)

// Each makes what it needs and removes it, so they can be called in any order.
var calls = map[string]func(b *bed) error{
	"wkspd.v1.Workspaces.Create":    create,
	"wkspd.v1.Workspaces.Delete":    remove,
	"wkspd.v1.Workspaces.Get":       get,
	"wkspd.v1.Workspaces.List":      list,
	"wkspd.v1.Workspaces.Open":      open,
	"wkspd.v1.Workspaces.Query":     query,
	"wkspd.v1.Workspaces.Verify":    verify,
	"wkspd.v1.Workspaces.Compact":   compact,
	"wkspd.v1.Workspaces.Resize":    resize,
	"wkspd.v1.Workspaces.Plan":      plan,
	"wkspd.v1.Workspaces.Placement": placement,
	"wkspd.v1.Workspaces.Watch":     watch,
	"wkspd.v1.Host.Version":         version,
	"wkspd.v1.Host.Stats":           stats,
	"wkspd.v1.Host.Clients":         clients,
	"wkspd.v1.Host.Reload":          reload,
}

const mib = 1 << 20

// A workspace of that name, until the function that is returned is called.
func (b *bed) with(name string) (func(), error) {
	_, err := b.workspaces.Create(b.ctx, &wkspd.CreateRequest{
		Name: name, Size: 2 * mib, MaxSize: 4 * mib, PageSize: 4096, Mode: 0600, Seed: 7})
	return func() {
		_, _ = b.workspaces.Delete(b.ctx, &wkspd.DeleteRequest{Name: name, Force: true})
	}, err
}

// err must be of that code, with a sentence and a detail about that workspace.
func refused(err error, code codes.Code, workspace string) error {
	st, ok := grpcstatus.FromError(err)
	if !ok || st.Code() != code || st.Message() == "" {
		return fail("answered with %v, wanted %v", err, code)
	}
	for _, any := range st.Proto().Details {
		var detail wkspd.ErrorDetail
		if any.TypeUrl != "type.googleapis.com/wkspd.v1.ErrorDetail" {
			return fail("a detail of type %s", any.TypeUrl)
		}
		if err := proto.Unmarshal(any.Value, &detail); err != nil {
			return err
		}
		if detail.Kind != "" && detail.Workspace == workspace {
			return nil
		}
	}
	return fail("no detail about '%s': %v", workspace, st.Proto().Details)
}

func create(b *bed) error {
	id := []byte("0123456789abcdef")
	request := &wkspd.CreateRequest{Name: "go-create", Size: 2*mib - 1, MaxSize: 4 * mib, PageSize: 4096, Mode: 0640,
		Seed: 9, RequestId: id}
	defer b.workspaces.Delete(b.ctx, &wkspd.DeleteRequest{Name: "go-create", Force: true})
	first, err := b.workspaces.Create(b.ctx, request)
	if err != nil {
		return err
	}
	w := first.Workspace
	if w.Name != "go-create" || len(w.Uuid) != 16 || w.Size != 2*mib || w.MaxSize != 4*mib || w.PageSize != 4096 ||
		w.Mode != 0640 || w.Seed != 9 || int(w.Uid) != os.Getuid() || w.CreatedNs == 0 || w.DataMax == 0 || w.PartMax == 0 {
		return fail("made %v", w)
	}
	again, err := b.workspaces.Create(b.ctx, request) // the same call: what was done is not done twice
	if err != nil || !bytes.Equal(again.Workspace.Uuid, w.Uuid) {
		return fail("the same call again: %v, %v", again, err)
	}
	request.RequestId = nil
	_, err = b.workspaces.Create(b.ctx, request)
	if err := refused(err, codes.AlreadyExists, "go-create"); err != nil {
		return err
	}
	_, err = b.workspaces.Create(b.ctx, &wkspd.CreateRequest{Name: "go create", Size: mib})
	if st, _ := grpcstatus.FromError(err); st.Code() != codes.InvalidArgument {
		return fail("a name that is none: %v", err)
	}
	return nil
}

func remove(b *bed) error {
	if _, err := b.with("go-remove"); err != nil {
		return err
	}
	done, err := b.workspaces.Delete(b.ctx, &wkspd.DeleteRequest{Name: "go-remove"})
	if err != nil || done.Deferred {
		return fail("%v, %v", done, err)
	}
	_, err = b.workspaces.Delete(b.ctx, &wkspd.DeleteRequest{Name: "go-remove"})
	return refused(err, codes.NotFound, "go-remove")
}

func get(b *bed) error {
	end, err := b.with("go-get")
	if err != nil {
		return err
	}
	defer end()
	got, err := b.workspaces.Get(b.ctx, &wkspd.GetRequest{Name: "go-get"})
	if err != nil || got.Workspace.Name != "go-get" || got.Workspace.Seed != 7 {
		return fail("%v, %v", got, err)
	}
	_, err = b.workspaces.Get(b.ctx, &wkspd.GetRequest{Name: "go-nobody"})
	return refused(err, codes.NotFound, "go-nobody")
}

// Page by page.
func list(b *bed) error {
	names := []string{"go-list-1", "go-list-2", "go-list-3"}
	for _, name := range names {
		end, err := b.with(name)
		if err != nil {
			return err
		}
		defer end()
	}
	var seen []string
	for token := ""; ; {
		page, err := b.workspaces.List(b.ctx, &wkspd.ListRequest{PageSize: 1, PageToken: token, All: true})
		if err != nil {
			return err
		}
		if len(page.Workspaces) > 1 {
			return fail("a page of %d", len(page.Workspaces))
		}
		for _, w := range page.Workspaces {
			seen = append(seen, w.Name)
		}
		if token = page.NextPageToken; token == "" {
			break
		}
	}
	for i, name := range names {
		if len(seen) != len(names) || seen[i] != name {
			return fail("listed %v", seen)
		}
	}
	return nil
}

// The memory and the lifeline come along; closing the latter ends the lease.
func open(b *bed) error {
	end, err := b.with("go-open")
	if err != nil {
		return err
	}
	defer end()
	opened, err := b.workspaces.Open(b.ctx, &wkspd.OpenRequest{Name: "go-open", Mode: wkspd.OpenMode_OPEN_READ_WRITE})
	if err != nil {
		return err
	}
	if opened.Fds != 2 || opened.MapSize != 4*mib || opened.LeaseId == 0 || opened.LayoutVersion == 0 {
		return fail("%v", opened)
	}
	fds, err := b.conn.Take(2)
	if err != nil {
		return err
	}
	memory, err := syscall.Mmap(fds[0], 0, int(opened.MapSize), syscall.PROT_READ, syscall.MAP_SHARED|syscall.MAP_NORESERVE)
	if err != nil {
		return err
	}
	if bytes.Index(memory[:4096], []byte("go-open")) < 0 {
		return fail("the header does not hold the name")
	}
	if err := syscall.Munmap(memory); err != nil {
		return err
	}
	if err := syscall.Close(fds[0]); err != nil {
		return err
	}
	_, err = b.workspaces.Delete(b.ctx, &wkspd.DeleteRequest{Name: "go-open"})
	if err := refused(err, codes.FailedPrecondition, "go-open"); err != nil {
		return err
	}
	events, err := wkspconn.NewStream("", "wkspd.v1.Workspaces", "Watch", &wkspd.WatchRequest{Name: "go-open"}, time.Minute)
	if err != nil {
		return err
	}
	defer events.Close()
	if err := syscall.Close(fds[1]); err != nil {
		return err
	}
	for { // the lease ends a moment later, before or after the stream began
		got, err := b.workspaces.Get(b.ctx, &wkspd.GetRequest{Name: "go-open"})
		if err != nil || got.Workspace.AttachedRw == 0 {
			return err
		}
	}
}

func query(b *bed) error {
	end, err := b.with("go-query")
	if err != nil {
		return err
	}
	defer end()
	got, err := b.workspaces.Query(b.ctx, &wkspd.QueryRequest{Name: "go-query"})
	if err != nil {
		return err
	}
	u := got.Usage
	if u == nil || u.TotalSize == 0 || u.FreeSize != u.TotalSize || u.UsedCnt != 0 || len(got.Partitions) != 0 ||
		got.NextPageGaddr != 0 || got.Holder != nil {
		return fail("%v", got)
	}
	holder, err := b.workspaces.Query(b.ctx, &wkspd.QueryRequest{Name: "go-query", HolderOnly: true})
	if err != nil || holder.Usage.GetTotalSize() != 0 || holder.Holder != nil {
		return fail("%v, %v", holder, err)
	}
	_, err = b.workspaces.Query(b.ctx, &wkspd.QueryRequest{Name: "go-nobody"})
	return refused(err, codes.NotFound, "go-nobody")
}

func verify(b *bed) error {
	end, err := b.with("go-verify")
	if err != nil {
		return err
	}
	defer end()
	done, err := b.workspaces.Verify(b.ctx, &wkspd.VerifyRequest{Name: "go-verify"})
	if err != nil || done.Workspace.GetName() != "go-verify" || done.Workspace.Damaged {
		return fail("%v, %v", done, err)
	}
	_, err = b.workspaces.Verify(b.ctx, &wkspd.VerifyRequest{Name: "go-nobody"})
	return refused(err, codes.NotFound, "go-nobody")
}

func compact(b *bed) error {
	end, err := b.with("go-compact")
	if err != nil {
		return err
	}
	defer end()
	done, err := b.workspaces.Compact(b.ctx, &wkspd.CompactRequest{Name: "go-compact"})
	if err != nil || done.FreedSize != 0 || done.SkippedCnt != 0 {
		return fail("%v, %v", done, err)
	}
	_, err = b.workspaces.Compact(b.ctx, &wkspd.CompactRequest{Name: "go-nobody"})
	return refused(err, codes.NotFound, "go-nobody")
}

func resize(b *bed) error {
	end, err := b.with("go-resize")
	if err != nil {
		return err
	}
	defer end()
	for _, size := range []uint64{3 * mib, mib} {
		done, err := b.workspaces.Resize(b.ctx, &wkspd.ResizeRequest{Name: "go-resize", Size: size})
		if err != nil || done.Workspace.Size != size {
			return fail("to %d: %v, %v", size, done, err)
		}
	}
	_, err = b.workspaces.Resize(b.ctx, &wkspd.ResizeRequest{Name: "go-resize", Size: 5 * mib})
	return refused(err, codes.InvalidArgument, "go-resize")
}

// What a create would take adds up, and it takes nothing; what is no placement is refused.
func plan(b *bed) error {
	planned, err := b.workspaces.Plan(b.ctx, &wkspd.CreateRequest{Size: 2*mib + 1, MaxSize: 4 * mib, PageSize: 4096})
	if err != nil || planned.PageSize != 4096 || planned.Size != 2*mib+4096 || planned.MaxSize != 4*mib {
		return fail("%v, %v", planned, err)
	}
	var wanted, growth uint64
	for _, node := range planned.Node {
		wanted += node.Wanted
		growth += node.Growth
	}
	if wanted != planned.Size/4096 || wanted+growth != planned.MaxSize/4096 {
		return fail("%v", planned)
	}
	_, err = b.workspaces.Plan(b.ctx, &wkspd.CreateRequest{Size: mib, Numa: "nowhere"})
	return refused(err, codes.InvalidArgument, "")
}

// Every page of it is somewhere.
func placement(b *bed) error {
	end, err := b.with("go-placement")
	if err != nil {
		return err
	}
	defer end()
	placed, err := b.workspaces.Placement(b.ctx, &wkspd.PlacementRequest{Name: "go-placement"})
	if err != nil || placed.Workspace.Name != "go-placement" || placed.RunsCut {
		return fail("%v, %v", placed, err)
	}
	var got, at uint64
	for _, node := range placed.Node {
		got += node.Got
	}
	for _, run := range placed.Runs {
		if run.First != at || run.Cnt == 0 {
			return fail("%v", placed)
		}
		at += run.Cnt
	}
	if got != placed.Workspace.Size/4096 || at != got {
		return fail("%v", placed)
	}
	_, err = b.workspaces.Placement(b.ctx, &wkspd.PlacementRequest{Name: "go-nobody"})
	return refused(err, codes.NotFound, "go-nobody")
}

// All that happens to one workspace, in order; and a stream whose time passes.
func watch(b *bed) error {
	events, err := wkspconn.NewStream("", "wkspd.v1.Workspaces", "Watch", &wkspd.WatchRequest{Name: "go-watch"}, time.Minute)
	if err != nil {
		return err
	}
	defer events.Close()
	// Nothing says when a stream has begun but its events, so the workspace is made until one comes.
	began := make(chan error, 1)
	var event wkspd.Event
	go func() { began <- events.Next(&event) }()
	for tries := 0; ; tries++ {
		end, err := b.with("go-watch")
		end()
		if err != nil {
			return err
		}
		select {
		case err = <-began:
		default:
			continue
		}
		if err != nil {
			return err
		}
		break
	}
	end, err := b.with("go-watch")
	if err != nil {
		return err
	}
	_, err = b.workspaces.Resize(b.ctx, &wkspd.ResizeRequest{Name: "go-watch", Size: mib})
	end()
	if err != nil {
		return err
	}
	for event.Kind != wkspd.EventKind_EVENT_RESIZED {
		if event.Name != "go-watch" || event.TimeNs == 0 {
			return fail("event %v", &event)
		}
		if err := events.Next(&event); err != nil {
			return err
		}
	}
	if err := events.Next(&event); err != nil || event.Kind != wkspd.EventKind_EVENT_REMOVED {
		return fail("after it was resized: %v, %v", &event, err)
	}
	short, err := wkspconn.NewStream("", "wkspd.v1.Workspaces", "Watch", &wkspd.WatchRequest{}, time.Millisecond)
	if err != nil {
		return err
	}
	defer short.Close()
	err = short.Next(&event)
	if st, _ := grpcstatus.FromError(err); err != io.EOF && st.Code() != codes.DeadlineExceeded {
		return fail("a stream whose time has passed: %v", err)
	}
	return nil
}

func version(b *bed) error {
	got, err := b.host.Version(b.ctx, &wkspd.VersionRequest{})
	if err != nil || got.Daemon == "" || got.LayoutVersion == 0 || got.GeometryHash == 0 {
		return fail("%v, %v", got, err)
	}
	served := map[string]bool{}
	for _, feature := range got.Features {
		served[feature] = true
	}
	for _, name := range declared() {
		if !served[name] {
			return fail("%s is not among the features %v", name, got.Features)
		}
	}
	return nil
}

func stats(b *bed) error {
	before, err := b.host.Stats(b.ctx, &wkspd.StatsRequest{})
	if err != nil || before.Pid == 0 || before.UptimeNs == 0 || before.ConnectionCnt == 0 || before.FdCnt == 0 {
		return fail("%v, %v", before, err)
	}
	after, err := b.host.Stats(b.ctx, &wkspd.StatsRequest{})
	if err != nil || after.RequestCnt <= before.RequestCnt || after.UptimeNs <= before.UptimeNs {
		return fail("%v after %v, %v", after, before, err)
	}
	return nil
}

// Who asks is among them, page by page.
func clients(b *bed) error {
	seen := 0
	for key := uint64(0); ; {
		page, err := b.host.Clients(b.ctx, &wkspd.ClientsRequest{PageSize: 1, PageKey: key})
		if err != nil {
			return err
		}
		for _, client := range page.Clients {
			if int(client.Pid) == os.Getpid() && int(client.Uid) == os.Getuid() && client.ConnectionCnt > 0 {
				seen++
			}
		}
		if key = page.NextKey; key == 0 {
			break
		}
	}
	if seen != 1 {
		return fail("who asks was there %d times", seen)
	}
	return nil
}

func reload(b *bed) error {
	done, err := b.host.Reload(b.ctx, &wkspd.ReloadRequest{})
	if err != nil {
		return err
	}
	for _, note := range done.Notes {
		if note == "" {
			return fail("an empty note among %v", done.Notes)
		}
	}
	return nil
}
