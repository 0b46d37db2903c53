package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	remotecommandprotocol "k8s.io/apimachinery/pkg/util/remotecommand"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/kubelet/pkg/cri/streaming"
	"k8s.io/kubelet/pkg/cri/streaming/portforward"
	remotecommandserver "k8s.io/kubelet/pkg/cri/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"
	"sigs.k8s.io/kwok/pkg/client/clientset/versioned"
)

// How long the other direction may go on when one has ended: containerd's and socat's value.
const grace = 500 * time.Millisecond

// A port-forward that carries nothing for so long is cut. A kubelet's default is 4 h, and that of Talos 5 min; this is short
// enough for a test to wait for it.
const idle = 40 * time.Second

// The streaming endpoints of a node, as the API server asks a kubelet for them, with the library that the kubelet and the
// container runtimes use. Where they lead to, kwok's PortForward and Exec objects of the pod's name say.
//
// kwok serves them too, but not as a container runtime does: a forward whose server ended stays open, a command never sees
// the end of its standard input, and its exit status is lost.
type streams struct {
	objects versioned.Interface
}

func serveStreams() error {
	kubeconfig := flag.String("kubeconfig", "", "of a user who may read kwok's objects")
	address := flag.String("address", "", "host:port to listen on")
	certificate := flag.String("tls-cert-file", "", "certificate")
	key := flag.String("tls-private-key-file", "", "its key")
	flag.Parse()
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		return err
	}
	// Each stream asks once; the client's own limit is 5 a second.
	config.QPS = -1
	objects, err := versioned.NewForConfig(config)
	if err != nil {
		return err
	}
	node := streams{objects}
	routes := http.NewServeMux()
	routes.HandleFunc("/healthz", func(http.ResponseWriter, *http.Request) {})
	routes.HandleFunc("/portForward/{namespace}/{pod}", node.servePortForward)
	routes.HandleFunc("/exec/{namespace}/{pod}/{container}", node.serveExec)
	return http.ListenAndServeTLS(*address, *certificate, *key, routes)
}

func (node streams) servePortForward(response http.ResponseWriter, request *http.Request) {
	options, err := portforward.NewV4Options(request)
	if err != nil {
		http.Error(response, err.Error(), http.StatusBadRequest)
		return
	}
	forwarder := podForwarder{node, request.PathValue("namespace")}
	portforward.ServePortForward(response, request, forwarder, request.PathValue("pod"), "", options,
		idle, streaming.DefaultConfig.StreamCreationTimeout, portforward.SupportedProtocols)
}

func (node streams) serveExec(response http.ResponseWriter, request *http.Request) {
	options, err := remotecommandserver.NewOptions(request)
	if err != nil {
		http.Error(response, err.Error(), http.StatusBadRequest)
		return
	}
	executor := podExecutor{node, request.PathValue("namespace")}
	limits := streaming.DefaultConfig
	remotecommandserver.ServeExec(response, request, executor, request.PathValue("pod"), "",
		request.PathValue("container"), request.URL.Query()["command"], options,
		limits.StreamIdleTimeout, limits.StreamCreationTimeout, remotecommandprotocol.SupportedStreamingProtocols)
}

// The pods of a namespace, for port-forward.
type podForwarder struct {
	streams
	namespace string
}

// PortForward ends when both directions have, or a moment after the first.
func (pods podForwarder) PortForward(ctx context.Context, pod string, _ types.UID, port int32, stream io.ReadWriteCloser) error {
	defer stream.Close()
	address, err := pods.address(ctx, pod, port)
	if err != nil {
		return err
	}
	connection, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer connection.Close()
	ended := make(chan error, 2)
	go func() {
		_, err := io.Copy(stream, connection)
		ended <- err
	}()
	go func() {
		_, err := io.Copy(connection, stream)
		ended <- err
	}()
	err = <-ended
	select {
	case other := <-ended:
		err = errors.Join(err, other)
	case <-time.After(grace):
	}
	return err
}

func (pods podForwarder) address(ctx context.Context, pod string, port int32) (string, error) {
	found, err := pods.objects.KwokV1alpha1().PortForwards(pods.namespace).Get(ctx, pod, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	for _, forward := range found.Spec.Forwards {
		if slices.Contains(forward.Ports, port) && forward.Target != nil {
			return fmt.Sprintf("%s:%d", forward.Target.Address, forward.Target.Port), nil
		}
	}
	// What the kernel says of a port that nobody listens on in the pod.
	return "", fmt.Errorf("dial tcp4 127.0.0.1:%d: connect: connection refused", port)
}

// The pods of a namespace, for exec.
type podExecutor struct {
	streams
	namespace string
}

// ExecInContainer runs a program of this machine with the environment that the Exec object gives.
func (pods podExecutor) ExecInContainer(ctx context.Context, pod string, _ types.UID, container string, command []string, in io.Reader, out, errOut io.WriteCloser, tty bool, _ <-chan remotecommand.TerminalSize, _ time.Duration) error {
	if tty {
		return errors.New("a pod of the tests has no terminal")
	}
	found, err := pods.objects.KwokV1alpha1().Execs(pods.namespace).Get(ctx, pod, metav1.GetOptions{})
	if err != nil {
		return err
	}
	process := exec.CommandContext(ctx, command[0], command[1:]...)
	process.Env = process.Environ()
	for _, target := range found.Spec.Execs {
		if slices.Contains(target.Containers, container) && target.Local != nil {
			for _, variable := range target.Local.Envs {
				process.Env = append(process.Env, variable.Name+"="+variable.Value)
			}
			return run(process, in, out, errOut)
		}
	}
	return fmt.Errorf("container %q not found in pod %q", container, pod)
}

func run(process *exec.Cmd, in io.Reader, out, errOut io.WriteCloser) error {
	process.Stdout, process.Stderr = out, errOut
	if in != nil {
		// Given as Stdin it would be waited for after the process has ended.
		stdin, err := process.StdinPipe()
		if err != nil {
			return err
		}
		go func() {
			defer stdin.Close()
			_, _ = io.Copy(stdin, in)
		}()
	}
	err := process.Run()
	var failure *exec.ExitError
	if errors.As(err, &failure) {
		return utilexec.CodeExitError{Err: failure, Code: failure.ExitCode()}
	}
	return err
}
