package main

import (
	"io"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"wkspconn"
	wkspd "wkspd/v1"
)

func init() {
	const service = "wkspd.v1.Checkpoints."
	for name, call := range map[string]func(b *bed) error{
		"Checkpoint":       checkpoint,
		"ListCheckpoints":  checkpoint,
		"ShowCheckpoint":   checkpoint,
		"VerifyCheckpoint": checkpoint,
		"RemoveCheckpoint": checkpoint,
		"Restore":          restore,
		"SetSchedule":      schedule,
		"GetSchedule":      schedule,
		"ListJobs":         checkpoint,
		"WatchJob":         checkpoint,
		"CancelJob":        cancelJob,
	} {
		calls[service+name] = call
	}
}

// Follows a job to the end of its stream: its last state.
func follow(id uint64) (*wkspd.Job, error) {
	states, err := wkspconn.NewStream("", "wkspd.v1.Checkpoints", "WatchJob", &wkspd.JobRequest{Id: id}, time.Minute)
	if err != nil {
		return nil, err
	}
	defer states.Close()
	last := &wkspd.Job{}
	for {
		job := &wkspd.Job{}
		err := states.Next(job)
		if err == io.EOF {
			return last, nil
		}
		if err != nil {
			return nil, err
		}
		last = job
	}
}

// A checkpoint of a workspace, taken to its end; its id.
func (b *bed) taken(name string) (string, error) {
	begun, err := b.checkpoints.Checkpoint(b.ctx, &wkspd.CheckpointRequest{
		Name: name, Style: wkspd.CheckpointStyle_STYLE_ZSTD, Level: 3, Info: "from Go"})
	if err != nil {
		return "", err
	}
	job, err := follow(begun.JobId)
	if err != nil || job.State != wkspd.JobState_JOB_DONE || job.Checkpoint == "" {
		return "", fail("%v, %v", job, err)
	}
	return job.Checkpoint, nil
}

// Taken, listed, shown, found sound and removed.
func checkpoint(b *bed) error {
	end, err := b.with("go-checkpoint")
	if err != nil {
		return err
	}
	defer end()
	id, err := b.taken("go-checkpoint")
	if err != nil {
		return err
	}
	list, err := b.checkpoints.ListCheckpoints(b.ctx, &wkspd.ListCheckpointsRequest{Name: "go-checkpoint"})
	if err != nil || len(list.Checkpoints) != 1 || list.Checkpoints[0].Id != id || list.Checkpoints[0].Info != "from Go" {
		return fail("%v, %v", list, err)
	}
	shown, err := b.checkpoints.ShowCheckpoint(b.ctx, &wkspd.ShowCheckpointRequest{Id: id, Verbose: 2})
	if err != nil || shown.Checkpoint.Id != id || !strings.Contains(shown.Text, "go-checkpoint") {
		return fail("%v, %v", shown, err)
	}
	begun, err := b.checkpoints.VerifyCheckpoint(b.ctx, &wkspd.CheckpointIdRequest{Id: id})
	if err != nil {
		return err
	}
	job, err := follow(begun.JobId)
	if err != nil || job.State != wkspd.JobState_JOB_DONE || job.Kind != wkspd.JobKind_JOB_VERIFY {
		return fail("%v, %v", job, err)
	}
	jobs, err := b.checkpoints.ListJobs(b.ctx, &wkspd.ListJobsRequest{})
	if err != nil || len(jobs.Jobs) < 2 {
		return fail("%v, %v", jobs, err)
	}
	if _, err := b.checkpoints.RemoveCheckpoint(b.ctx, &wkspd.CheckpointIdRequest{Id: id}); err != nil {
		return err
	}
	_, err = b.checkpoints.RemoveCheckpoint(b.ctx, &wkspd.CheckpointIdRequest{Id: id})
	return refused(err, codes.NotFound, "")
}

func restore(b *bed) error {
	end, err := b.with("go-restore")
	if err != nil {
		return err
	}
	defer end()
	id, err := b.taken("go-restore")
	if err != nil {
		return err
	}
	done, err := b.checkpoints.Restore(b.ctx, &wkspd.RestoreRequest{Name: "go-restore", From: id, As: "go-restored", Wait: true})
	if err != nil || done.Workspace.Name != "go-restored" || done.Workspace.Seed != 7 || done.JobId == 0 {
		return fail("%v, %v", done, err)
	}
	if _, err := b.workspaces.Delete(b.ctx, &wkspd.DeleteRequest{Name: "go-restored"}); err != nil {
		return err
	}
	if _, err := b.checkpoints.RemoveCheckpoint(b.ctx, &wkspd.CheckpointIdRequest{Id: id}); err != nil {
		return err
	}
	_, err = b.checkpoints.Restore(b.ctx, &wkspd.RestoreRequest{Name: "go-restore"})
	return refused(err, codes.NotFound, "go-restore")
}

func schedule(b *bed) error {
	end, err := b.with("go-schedule")
	if err != nil {
		return err
	}
	defer end()
	set := &wkspd.SetScheduleRequest{Name: "go-schedule", EveryNs: uint64(time.Hour), Keep: &wkspd.Keep{Last: 3}}
	if _, err := b.checkpoints.SetSchedule(b.ctx, set); err != nil {
		return err
	}
	got, err := b.checkpoints.GetSchedule(b.ctx, &wkspd.GetScheduleRequest{Name: "go-schedule"})
	if err != nil || got.Schedule.EveryNs != uint64(time.Hour) || got.Schedule.Keep.Last != 3 || got.Schedule.DueNs == 0 {
		return fail("%v, %v", got, err)
	}
	set.JitterNs = uint64(time.Hour)
	_, err = b.checkpoints.SetSchedule(b.ctx, set)
	return refused(err, codes.InvalidArgument, "")
}

func cancelJob(b *bed) error {
	_, err := b.checkpoints.CancelJob(b.ctx, &wkspd.JobRequest{Id: 1 << 40})
	return refused(err, codes.NotFound, "")
}
