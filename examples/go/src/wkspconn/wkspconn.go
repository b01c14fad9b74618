// Package wkspconn is what a Go program needs to speak to wkspd beside ttrpc and the stubs that are generated from
// wkspd.proto: a connection that keeps the descriptors which come with an answer, and server streams, which
// github.com/containerd/ttrpc has from version 1.2 on only. The wire is described in docs/protocol.md.
package wkspconn

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/golang/protobuf/ptypes/any"
	"google.golang.org/genproto/googleapis/rpc/status"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	envelope "wkspd/ttrpc"
)

// As many descriptors as one answer can bring.
const fdsMax = 16

// A Conn is a net.Conn for ttrpc.NewClient.
type Conn struct {
	*net.UnixConn
	mutex sync.Mutex
	fds   []int
}

// Dial connects; path "" is $WKSPD_SOCKET, else the default socket.
func Dial(path string) (*Conn, error) {
	if path == "" {
		path = os.Getenv("WKSPD_SOCKET")
	}
	if path == "" {
		path = "/run/wkspd/wkspd.sock"
	}
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	return &Conn{UnixConn: conn}, nil
}

// Read keeps descriptors that come along, in their order.
func (c *Conn) Read(to []byte) (int, error) {
	room := make([]byte, syscall.CmsgSpace(4*fdsMax))
	n, got, _, _, err := c.ReadMsgUnix(to, room)
	if err != nil {
		return 0, err // n is -1 then, which no io.Reader may say
	}
	if n == 0 && len(to) > 0 {
		return 0, io.EOF
	}
	messages, parseErr := syscall.ParseSocketControlMessage(room[:got])
	if parseErr != nil {
		return n, parseErr
	}
	c.mutex.Lock()
	defer c.mutex.Unlock()
	for i := range messages {
		if fds, err := syscall.ParseUnixRights(&messages[i]); err == nil {
			c.fds = append(c.fds, fds...)
		}
	}
	return n, nil
}

// Take returns the next descriptors, as many as an answer declares to have brought. They are the caller's.
func (c *Conn) Take(count int) ([]int, error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if len(c.fds) < count {
		return nil, fmt.Errorf("%d descriptors were declared and %d have come", count, len(c.fds))
	}
	taken := c.fds[:count]
	c.fds = c.fds[count:]
	for _, fd := range taken {
		syscall.CloseOnExec(fd)
	}
	return taken, nil
}

// A Stream is a call that is answered by any number of messages, on a connection of its own.
type Stream struct {
	conn *Conn
}

// Frames' types and flags.
const (
	typeRequest, typeResponse, typeData   = 1, 2, 3
	flagRemoteClosed, flagNoData, dataMax = 1, 4, 4 << 20
)

// NewStream makes the call. Close ends it.
func NewStream(path, service, method string, request proto.Message, timeout time.Duration) (*Stream, error) {
	conn, err := Dial(path)
	if err != nil {
		return nil, err
	}
	payload, err := proto.Marshal(request)
	if err != nil {
		return nil, err
	}
	frame, err := proto.Marshal(&envelope.Request{
		Service: service, Method: method, Payload: payload, TimeoutNano: int64(timeout)})
	if err != nil {
		return nil, err
	}
	head := make([]byte, 10, 10+len(frame))
	binary.BigEndian.PutUint32(head, uint32(len(frame)))
	head[7], head[8], head[9] = 1, typeRequest, flagRemoteClosed // stream 1
	_, err = conn.Write(append(head, frame...))
	return &Stream{conn}, err
}

// Next waits for a message. io.EOF: there are no more; else what ended the call, as ttrpc's unary calls return it.
func (s *Stream) Next(message proto.Message) error {
	var head [10]byte
	if _, err := io.ReadFull(s.conn, head[:]); err != nil {
		return err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > dataMax {
		return errors.New("a frame that is too large")
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(s.conn, data); err != nil {
		return err
	}
	switch {
	case head[8] == typeData && head[9]&flagNoData != 0:
		return io.EOF
	case head[8] == typeData:
		return proto.Unmarshal(data, message)
	case head[8] != typeResponse:
		return fmt.Errorf("a frame of type %d", head[8])
	}
	var response envelope.Response
	if err := proto.Unmarshal(data, &response); err != nil {
		return err
	}
	st := status.Status{Code: response.GetStatus().GetCode(), Message: response.GetStatus().GetMessage()}
	for _, detail := range response.GetStatus().GetDetails() {
		st.Details = append(st.Details, &any.Any{TypeUrl: detail.TypeUrl, Value: detail.Value})
	}
	return grpcstatus.ErrorProto(&st)
}

// Close ends the call, whatever it is at.
func (s *Stream) Close() error {
	return s.conn.Close()
}
